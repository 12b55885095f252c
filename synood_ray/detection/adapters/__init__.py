"""Our detector as other libraries' own: one file a library, imported by those who have it installed."""
