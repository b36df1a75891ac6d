"""Launch-time settings (``/etc/hubsmith/settings.toml``): schema, validation and reference."""
