"""The one policy that only the site can send, since each page has a nonce of its own in it.

All other headers are the web server's (docs/app-contract.md), which sends them with every answer, its own too.
"""

from typing import Any

from csp.constants import NONCE, NONE, SELF

MODES = ("enforce", "report_only", "off")


def content_security_policy(report_uri: str) -> dict[str, Any]:
    """Return django-csp's setting. A page gets a nonce for inline scripts and styles where it asks for one."""
    directives: dict[str, Any] = {
        "default-src": [SELF],
        "script-src": [SELF, NONCE],
        "style-src": [SELF, NONCE],
        "object-src": [NONE],
        "base-uri": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
    if report_uri:
        directives["report-uri"] = [report_uri]
    return {"DIRECTIVES": directives}
