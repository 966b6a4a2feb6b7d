"""The policies that every page sends to the browser."""

from typing import Any

from csp.constants import NONCE, NONE, SELF

PERMISSIONS = {
    name: []
    for name in (
        "accelerometer", "camera", "display-capture", "geolocation", "gyroscope", "magnetometer", "microphone", "midi",
        "payment", "usb",
    )
}  # fmt: skip


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
