"""Where a router's values come from: one module per kind of source, each a callable."""
