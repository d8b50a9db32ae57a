"""The role that each route needs. `docs/security.md` explains the roles.

    AuthMiddleware --role_of--> ROLES <--allowed_methods-- MethodMiddleware

Both look at the same path, `route_path`, which is also the one that the router gets.
"""

from enum import Enum

from starlette.routing import compile_path
from starlette.types import Scope


class Role(Enum):
    """What a client must be allowed to do."""

    OPEN = "open"
    """Needs no token: it tells nothing about the images."""

    READ = "read"
    """Needs the read token, if there is one."""

    WRITE = "write"
    """Needs the write token; without one, nobody has this role, unless ``--allow-writes`` gives it to everybody."""


ROLES = {
    ("GET", "/healthz"): Role.OPEN,
    ("GET", "/readyz"): Role.OPEN,
    ("GET", "/metrics"): Role.READ,
    ("GET", "/openapi.json"): Role.OPEN,
    ("GET", "/docs"): Role.OPEN,
    ("GET", "/api/info"): Role.OPEN,  # the page asks there whether a token is needed
    ("GET", "/api/filters"): Role.READ,
    ("POST", "/api/search"): Role.READ,
    ("POST", "/api/matches"): Role.READ,
    ("POST", "/api/attention"): Role.READ,
    ("POST", "/api/images"): Role.WRITE,
    ("GET", "/api/images/{image_id}"): Role.READ,
    ("DELETE", "/api/images/{image_id}"): Role.WRITE,
    ("GET", "/api/images/{image_id}/search"): Role.READ,
    ("GET", "/api/images/{image_id}/attention"): Role.READ,
    ("GET", "/api/images/{image_id}/file"): Role.READ,
    ("GET", "/api/images/{image_id}/thumbnail"): Role.READ,
}
"""Role by method and route. The page, which is everything outside /api that is not listed, is open."""

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""

_PATTERNS = [(method, compile_path(route)[0], role) for (method, route), role in ROLES.items()]


def role_of(method: str, path: str) -> Role:
    """The role that a request needs.

    Args:
        method: HTTP method.
        path: result of `route_path`.
    """
    roles = _roles_by_method(path)
    asked = "GET" if method in SAFE_METHODS else method
    if asked in roles:
        return roles[asked]
    if not is_api(path) or (roles and method not in SAFE_METHODS):
        return Role.OPEN  # the page, or a method that `MethodMiddleware` refuses
    return Role.READ if method in SAFE_METHODS else Role.WRITE


def allowed_methods(path: str) -> tuple[str, ...]:
    """The methods that a path has; none for an unknown path of the API.

    Args:
        path: result of `route_path`.
    """
    methods = list(_roles_by_method(path)) or ([] if is_api(path) else ["GET"])
    return (*methods, *(["HEAD"] if "GET" in methods else []), *(["OPTIONS"] if methods else []))


def is_api(path: str) -> bool:
    """Whether a path belongs to the API; `path` is the result of `route_path`."""
    return path == "/api" or path.startswith("/api/")


def _roles_by_method(path: str) -> dict[str, Role]:
    return {method: role for method, pattern, role in _PATTERNS if pattern.match(path)}


def route_path(scope: Scope) -> str:
    """Path of a request below the root path of the service, without a slash at its end except for "/"."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if root and (path == root or path.startswith(f"{root}/")):
        path = path[len(root) :]
    return path.rstrip("/") or "/"
