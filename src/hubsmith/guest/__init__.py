"""Code that runs inside an appliance: applies the settings and reports the status.

In the image, the files ``hubsmith/{__init__,errors,run,words}.py`` and the folders ``hubsmith/settings`` and
``hubsmith/guest`` are in ``/usr/lib/hubsmith/python``, beside the modules' own packages (``hubsmith_<topic>``).
Debian's ``/usr/bin/python3`` runs them; the file ``hubsmith.pth`` adds that folder to its path.
The modules' programs use :mod:`hubsmith.guest.context`, :mod:`hubsmith.guest.programs`,
:mod:`hubsmith.guest.files` and :mod:`hubsmith.guest.status.answer`.

The contract with the modules
=============================

Every template gets the **context** as Jinja2 variables, and every hook gets it as a JSON object on standard input::

    {
      "state": "good" | "bad",
      "settings": {"hub": {...}, "tls": {...}},    # the tables in the module's `[settings] reads`, and no others;
                                                   # sizes in bytes, durations in seconds; null if state is bad
      "facts": {"home_owner": [1000, 100], ...},   # values derived from the settings, of all modules; no secrets;
                                                   # defaults if state is bad; also in /run/hubsmith/facts.json
      "reasons": ["line 4: tls.email: ..."],       # why the state is bad, safe to publish; [] if good
      "secrets": {"cookie_secret": "<64 hex>", "proxy_token": ..., "metrics_token": ..., "culler_token": ...,
                  "operator_token": ..., "crypt_key": ...},
      "machine": {"hostname": "hub", "addresses": ["10.0.2.15"], "public_ipv4": "" | "203.0.113.7",
                  "memory": <bytes>, "cpus": <number>},
      "ports": [{"topic": "nginx", "number": 443, "protocol": "tcp", "audience": "all"}, ...],   # of all modules
      "kept": ["/var/lib/jupyterhub", ...]         # every `[[state]]` with `keep = true`
    }

**Templates** (``[[templates]]`` in ``module.toml``): Jinja2 with ``StrictUndefined``, ``trim_blocks`` and
``lstrip_blocks``. If a name is undefined, the settings are rejected. A target with ``when = "good"`` (default) exists
only while the settings are good, with ``"bad"`` only while they are rejected, and with ``"always"`` in both cases. A
target that does not belong to the current state is removed, which counts as a change. All templates are rendered before
the first is written. Each is written atomically, and only if it differs. After the hooks, the units in ``reload`` and
``restart`` of the changed templates are reloaded or restarted, once each, if they are active (or have failed).

**Hooks** (``/usr/lib/hubsmith/apply.d/<NN>-<topic>``): run as root in the order of their names, only if the settings
are good, after the templates are written and before the hub starts. They must be idempotent. The topic is the module
whose ``reads`` limit the settings that the hook gets. With an exit code other than 0 the settings are rejected, and the
last line of standard error is the reason. (Root and the journal see it; the public page names only the step.)

**Preparation** (``/usr/lib/hubsmith/prepare.d/<NN>-<topic>``): hooks that run before all other steps of a good apply.
They mount the storage of the machine's secrets, so ``secrets`` is still empty.

**Outcome**: ``/run/hubsmith/apply.json`` (root only). Good: ``hubsmith-hub.target`` is started. Bad: it is stopped.
Units of the hub say ``PartOf=hubsmith-hub.target`` and ``WantedBy=hubsmith-hub.target``; nothing else starts them.

**Status** (``/usr/lib/hubsmith/status.d/``), two kinds of files:

``<item>.toml``
    ``unit = "nginx.service"`` makes an item from the state of a systemd unit; with ``hub = true`` the unit is part of
    the hub and does not run while the settings are rejected. One ``systemctl show`` queries all units every 5 s (every
    15 s once everything is ready).
``<item>`` (executable)
    prints ``{"state": "ready|starting|degraded|failed", "why": "..."}``. It runs after each apply, when a unit
    changes, and otherwise every 60 s, for at most 30 s. ``why`` is public: no secrets, no user names.
"""
