"""ASGI middleware: access control, limits, security headers, and the access log."""
