"""The extension's version and the protocol version that its gateways speak to each other."""

__version__ = "0.1.0"

#: Version of heartbeats and peer messages. A mixed pair speaks the lower of both. 2: settings may have shared networks,
#: and another wait with older data. 3: they may have PPPoE connections, and own addresses of the gateways. 4: networks
#: may have router advertisements, and there may be notification targets. 5: one gateway may be the preferred one.
PROTOCOL = 5
