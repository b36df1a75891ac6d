"""Facts about the networks that the firewall admits to ports with a limited audience."""

from __future__ import annotations

from hubsmith.settings.tables import fact

#: Networks of the machines of this deployment (`audience = "peers"`).
PEERS = fact("peers", default=())
#: Addresses and networks of those who read the metrics (`audience = "metrics"`).
SCRAPERS = fact("scrapers", default=())
