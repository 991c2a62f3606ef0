"""Pages over HTTP as a person uses them from a machine of the lab: links, tables, and forms filled in by name."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from html.parser import HTMLParser
from http.cookiejar import CookieJar
from urllib.parse import urlencode, urljoin

from sample_app.lab import Namespace

_VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
#: An agent may be busy with a join meanwhile, s.
_PATIENCE_S = 60


class Element:
    """An element of a page."""

    def __init__(self, tag: str, attributes: dict[str, str], parent: Element | None = None) -> None:
        self.tag, self.attributes, self.parent = tag, attributes, parent
        self.content: list[Element | str] = []

    def __getitem__(self, name: str) -> str:
        return self.attributes.get(name, "")

    def all(self, *tags: str) -> Iterator[Element]:
        """Yield what is below it, in the page's order."""
        for each in self.content:
            if isinstance(each, Element):
                if not tags or each.tag in tags:
                    yield each
                yield from each.all(*tags)

    def above(self) -> Iterator[Element]:
        """Yield itself and what it is in."""
        yield self
        if self.parent is not None:
            yield from self.parent.above()

    @property
    def text(self) -> str:
        """What a person reads, with single spaces."""
        parts = [each if isinstance(each, str) else each.text for each in self.content if _shown(each)]
        return " ".join(" ".join(parts).split())


def _shown(each: Element | str) -> bool:
    return isinstance(each, str) or each.tag not in ("script", "style", "head", "option", "textarea")


class _Reader(HTMLParser):
    def __init__(self, root: Element) -> None:
        super().__init__()
        self._open = [root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs}, self._open[-1])
        self._open[-1].content.append(element)
        if tag not in _VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        at = next(at for at in range(len(self._open) - 1, 0, -1) if self._open[at].tag == tag)
        del self._open[at:]

    def handle_data(self, data: str) -> None:
        self._open[-1].content.append(data)


class Page(Element):
    """A page that was answered, and who looks at it."""

    def __init__(self, visitor: Visitor, url: str, status: int, source: str) -> None:
        super().__init__("", {})
        self.url, self.status, self._visitor = url, status, visitor
        _Reader(self).feed(source)

    def follow(self, text: str) -> Page:
        """Open the first link with these words."""
        links = [each for each in self.all("a") if text in each.text]
        assert links, f"no link {text!r} on {self.url}: {self.text}"
        return self._visitor.open(urljoin(self.url, links[0]["href"]))

    def rows(self) -> list[list[str]]:
        """Return the cells' texts of every table's rows."""
        return [[cell.text for cell in row.all("th", "td")] for row in self.all("tr")]

    def value(self, name: str) -> str:
        """Return what a field holds; of several of its name the first one's."""
        field = next((each for each in self.all("input", "textarea", "select") if each["name"] == name), None)
        assert field is not None, f"no field {name} on {self.url}: {self.text}"
        return _value(field)

    def offered(self, name: str) -> list[str]:
        """Return what a choice offers."""
        (field,) = [each for each in self.all("select") if each["name"] == name]
        return [_option(each) for each in field.all("option") if _option(each)]

    def press(self, button: str, _form: str = "", **typed: str | bool) -> Page:
        """Fill in and send the form that has a button with these words.

        :param _form: part of the form's address, where several have such a button.
        :param typed: by field name with ``_`` for ``-``; a tick is True or False.
        """
        found = [
            (form, each) for form in self.all("form") for each in form.all("button")
            if button == (each["aria-label"] or each.text) and _form in (each["formaction"] or form["action"])
        ]  # fmt: skip
        assert found, f"no button {button!r} on {self.url}: {self.text}"
        form, pressed = found[0]
        fields = [each for each in form.all("input", "textarea", "select") if each["name"] and not _disabled(each)]
        wanted = {next((f["name"] for f in fields if f["name"].replace("-", "_") == name), name): value
                  for name, value in typed.items()}  # fmt: skip
        assert set(wanted) <= {each["name"] for each in fields}, f"{wanted} are not all on {self.url}: {self.text}"
        sent = []
        for each in fields:
            if each["type"] in ("checkbox", "radio"):
                ticked = wanted.get(each["name"], "checked" in each.attributes)
                if ticked is True or ticked == each["value"]:
                    sent.append((each["name"], each["value"] or "on"))
            else:
                sent.append((each["name"], str(wanted.get(each["name"], _value(each)))))
        if pressed["name"]:
            sent.append((pressed["name"], pressed["value"]))
        target = urljoin(self.url, pressed["formaction"] or form["action"] or self.url)
        if form["method"].lower() != "post":
            return self._visitor.open(f"{target.partition('#')[0]}?{urlencode(sent)}")
        return self._visitor.open(target, urlencode(sent))


class Visitor:
    """A person at a machine, signed in to the sample firmware behind an address."""

    def __init__(self, machine: Namespace, address: str) -> None:
        self._machine, self._base = machine, f"http://{address}"
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        page = self.open("/login").press("Log in", user="admin", password="admin")
        assert page.url == f"{self._base}/", page.text

    def open(self, path: str, form: str | None = None) -> Page:
        """Return the page at a path of the firmware, whatever its status is."""
        url = urljoin(self._base, path)
        with self._machine.entered():
            try:
                answer = self._opener.open(url, None if form is None else form.encode(), _PATIENCE_S)
            except urllib.error.HTTPError as error:
                answer = error
            with answer:
                return Page(self, answer.geturl(), answer.status, answer.read().decode())


def _disabled(field: Element) -> bool:
    return any("disabled" in each.attributes for each in field.above() if each.tag in (field.tag, "fieldset"))


def _value(field: Element) -> str:
    if field.tag == "textarea":
        return "".join(each for each in field.content if isinstance(each, str)).removeprefix("\n").strip("\r\n")
    if field.tag == "select":
        options = list(field.all("option"))
        chosen = [each for each in options if "selected" in each.attributes] or options[:1]
        return _option(chosen[0]) if chosen else ""
    return field["value"]


def _option(each: Element) -> str:
    return each.attributes.get("value", each.text)
