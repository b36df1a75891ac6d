"""What runs inside an appliance: apply the settings, tell the status.

In the image the files ``hubsmith/{__init__,errors,run,words}.py`` and the folders ``hubsmith/settings`` and
``hubsmith/guest`` lie in ``/usr/lib/hubsmith/python``, beside the modules' own packages (``hubsmith_<topic>``).
Debian's ``/usr/bin/python3`` runs them: the file ``hubsmith.pth`` puts that folder on its path.
The modules' programs share :mod:`hubsmith.guest.context`, :mod:`hubsmith.guest.programs`,
:mod:`hubsmith.guest.files` and :mod:`hubsmith.guest.status.answer`.

The contract with the modules
=============================

One **context** is given to every template (as Jinja2 variables) and to every hook (as one JSON object on standard
input)::

    {
      "state": "good" | "bad",
      "settings": {"hub": {...}, "tls": {...}},    # the tables in the module's `[settings] reads`, and no others;
                                                   # sizes in bytes, durations in seconds; null when state is bad
      "reasons": ["line 4: tls.email: ..."],       # why it is bad, safe to show to anybody; [] when good
      "secrets": {"cookie_secret": "<64 hex>", "proxy_token": ..., "metrics_token": ..., "culler_token": ...,
                  "operator_token": ..., "crypt_key": ...},
      "machine": {"hostname": "hub", "addresses": ["10.0.2.15"], "public_ipv4": "" | "203.0.113.7",
                  "memory": <bytes>, "cpus": <number>},
      "ports": [{"topic": "nginx", "number": 443, "protocol": "tcp", "audience": "all"}, ...],   # of all modules
      "kept": ["/var/lib/jupyterhub", ...]         # every `[[state]]` with `keep = true`
    }

**Templates** (``[[templates]]`` in ``module.toml``): Jinja2 with ``StrictUndefined``, ``trim_blocks`` and
``lstrip_blocks``; an undefined name refuses the apply. ``when = "good"`` (default) exists only while the settings are
good, ``"bad"`` only while they are refused, ``"always"`` in both: a target that does not belong to the present state
is removed, which counts as a change. All templates are rendered before the first is written; each is written
atomically and only if it differs. After the hooks the units in ``reload`` and ``restart`` of the changed ones are
reloaded or restarted, once each, if they are active (or have failed).

**Hooks** (``/usr/lib/hubsmith/apply.d/<NN>-<topic>``): run as root in the order of their names, only when the settings
are good, after the templates are written and before the hub starts. They must be idempotent. The topic names the
module whose ``reads`` limit the settings it gets. Exit code 0: done. Another: the apply is refused, and the last line
of standard error is the reason (root and the journal see it; the public page says only which step it was).

**Preparation** (``/usr/lib/hubsmith/prepare.d/<NN>-<topic>``): hooks that run before everything else of a good apply,
when the machine's secrets are not read yet (``secrets`` is empty): what they live on is made there.

**Outcome**: ``/run/hubsmith/apply.json`` (root only). Good: ``hubsmith-hub.target`` is started. Bad: it is stopped.
Units of the hub say ``PartOf=hubsmith-hub.target`` and ``WantedBy=hubsmith-hub.target``; nothing else starts them.

**Status** (``/usr/lib/hubsmith/status.d/``), two kinds of files:

``<item>.toml``
    ``unit = "nginx.service"`` makes an item from the state of a systemd unit; with ``hub = true`` the unit is part of
    the hub and rests while the settings are refused. One ``systemctl show`` looks at all units every 5 s (every 15 s
    once everything is ready).
``<item>`` (executable)
    prints ``{"state": "ready|starting|degraded|failed", "why": "..."}``. Run after each apply, when a unit
    changes, and else every 60 s, for at most 30 s. The sentence is public: no secrets, no user names.
"""
