"""E-mail, by SMTP."""

from __future__ import annotations

import smtplib
import ssl
from email.message import EmailMessage
from email.utils import formatdate

from ..settings.notify import Target, mail_server
from . import texts
from .delivery import STEP_S, DeliveryFailed, failure, said, trusting
from .texts import Message

#: Who we say that we are. Left to itself, smtplib asks the DNS for this machine's name, and waits.
HELLO = "[127.0.0.1]"


def send(target: Target, message: Message) -> str:
    """Send a message and return the server's answer.

    :raises DeliveryFailed: it was not taken.
    """
    host, port = mail_server(target)
    mail = written(target, message)
    try:
        with _connected(target, host, port) as server:
            if target.user:
                server.login(target.user, target.password)
            refused = server.send_message(mail, target.sender, list(target.recipients))
        if refused:
            raise _nobody(refused)
        return "The mail server has taken it for " + ", ".join(target.recipients) + "."
    except smtplib.SMTPAuthenticationError as error:
        raise DeliveryFailed(f"{host} does not accept user name and password: {_words(error)}",
                             "Type them again.") from None  # fmt: skip
    except smtplib.SMTPSenderRefused as error:
        raise DeliveryFailed(f"{host} does not accept the sender {target.sender}: {_words(error)}",
                             "Which sender may this user have?") from None  # fmt: skip
    except smtplib.SMTPRecipientsRefused as error:
        raise _nobody(error.recipients) from None
    except smtplib.SMTPNotSupportedError as error:
        raise DeliveryFailed(f"{host} cannot do that: {said(str(error))}",
                             "Choose another protection or port.") from None  # fmt: skip
    except smtplib.SMTPResponseException as error:
        raise DeliveryFailed(f"{host} does not take the mail: {_words(error)}") from None
    except smtplib.SMTPException as error:
        raise DeliveryFailed(f"{host} does not speak SMTP as expected: {said(str(error))}",
                             "Is it the right port, and the right protection?") from None  # fmt: skip
    except OSError as error:
        raise failure(error, host, port) from None


def written(target: Target, message: Message) -> EmailMessage:
    """Return the mail. Its headers are set by :mod:`email`, which refuses line breaks in them."""
    mail = EmailMessage()
    mail["From"] = target.sender
    mail["To"] = ", ".join(target.recipients)
    mail["Subject"] = texts.subject(message)
    mail["Date"] = formatdate(localtime=False)
    plain = "".join(sign for sign in message.news[0].id if sign.isascii() and sign.isalnum())
    mail["Message-ID"] = f"<{plain or 'test'}.{len(message.news)}@hsmx-cluster.invalid>"
    mail["Auto-Submitted"] = "auto-generated"
    if message.severity == "critical":
        mail["Importance"] = "high"
    mail.set_content(texts.body(message))
    return mail


def _connected(target: Target, host: str, port: int) -> smtplib.SMTP:
    if target.security == "none":
        return smtplib.SMTP(host, port, HELLO, timeout=STEP_S)

    def connect(context: ssl.SSLContext) -> smtplib.SMTP:
        if target.security == "tls":
            return smtplib.SMTP_SSL(host, port, HELLO, timeout=STEP_S, context=context)
        server = smtplib.SMTP(host, port, HELLO, timeout=STEP_S)
        try:
            server.starttls(context=context)  # raises where it is not offered: never without
        except BaseException:
            server.close()
            raise
        return server

    return trusting(connect, target.fingerprint, host)


def _words(error: smtplib.SMTPResponseException) -> str:
    return said(f"{error.smtp_code} {error.smtp_error.decode(errors='replace')}"
                if isinstance(error.smtp_error, bytes) else f"{error.smtp_code} {error.smtp_error}")  # fmt: skip


def _nobody(refused: dict[str, tuple[int, bytes]]) -> DeliveryFailed:
    (address, (code, answer)), *_ = refused.items()
    return DeliveryFailed(f"The mail server does not accept {address}: {code} {said(answer)}", "Correct the address.")
