"""The launch-time settings (``/etc/hubsmith/settings.toml``): schema, checks, reference."""
