"""What an HTTP status means for whoever sent the request: one table, our errors."""

from __future__ import annotations

from forwarder.core.errors import (
    BatchRefusedError,
    BatchTooLargeError,
    ForwarderError,
    NeedsOperatorError,
    TransientError,
)

_OPERATOR = {
    401: ("unauthorised", "check the token, user and password; a changed secret file is re-read"),
    402: ("payment required", "check the subscription of the account there"),
    403: ("forbidden", "check that this token or user may write there"),
    404: ("not found", "check the path of the URL"),
    405: ("method not allowed", "check the path of the URL"),
    406: ("not acceptable", "check the URL and the format"),
    407: ("proxy authentication required", "set proxy_username and proxy_password"),
    410: ("gone", "check the URL"),
    411: ("length required", "a proxy on the way removes the length of requests"),
    415: ("unsupported media type", "set gzip: false, or check the content type"),
    421: ("misdirected request", "check the host name and tls.server_name"),
    426: ("upgrade required", "use https"),
    431: ("header fields too large", "check the headers in the settings"),
    495: ("certificate refused", "check tls.cert_file"),
    496: ("certificate required", "set tls.cert_file and tls.key_file"),
    511: ("network authentication required", "a gateway on the way asks for a log-in"),
}
_TRANSIENT = frozenset({408, 409, 423, 425, 429, 499})
_TOO_LARGE = 413


def status_error(
    status: int, where: str, *, retry_after: float | None = None
) -> ForwarderError | None:
    """Return the error that ``status`` stands for, or None for a success (2xx).

    ``where`` names the destination for people, without path and secrets. What is unknown is taken
    by its class: 5xx may pass, another 4xx is a refusal of just this request.
    """
    said = f"{where} answered {status}"
    if 200 <= status < 300:  # noqa: PLR2004 - the success class
        return None
    if status in _OPERATOR:
        what, hint = _OPERATOR[status]
        return NeedsOperatorError(f"{said} ({what})", retry_after=retry_after, hint=hint)
    if status == _TOO_LARGE:
        return BatchTooLargeError(said)
    if 300 <= status < 400:  # noqa: PLR2004 - redirects, which would carry the token to another host
        return NeedsOperatorError(
            f"{said}: a redirect, which is never followed",
            retry_after=retry_after,
            hint="give the final URL; a log-in page or a change from http to https redirects too",
        )
    if status >= 500 or status in _TRANSIENT:  # noqa: PLR2004 - the server's own faults
        return TransientError(said, retry_after=retry_after)
    return BatchRefusedError(said)
