"""Who may come in.

    scopes.py       which scope of a project key each route of the API asks for
    keys.py         project keys: made, listed, revoked, recognised
    browser.py      whether a web page is behind a call, and whether it may be (Host, Origin, CORS)
    webhook.py      the `auth` of a webhook: bearer, basic, header
    signatures.py   the `auth` of a webhook: HMAC over the raw body
    deliveries.py   the `dedupe` of a webhook: one run for each delivery
    slowing.py      the pause after failed authentications
    refusals.py     what is counted and logged about those who were not let in
    door.py         all of it in one object, as the app holds it

What is refused raises `Refused` with a word for the log and a sentence for the caller that would not help a guesser.
"""

from __future__ import annotations

from mechaway_core.access.door import AdminToken, Door, Secrets

__all__ = ["AdminToken", "Door", "Secrets"]
