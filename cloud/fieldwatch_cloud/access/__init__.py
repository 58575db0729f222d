"""Access: who a request comes from, and what they may do.

===============  ======================================================================================
module           what it promises
===============  ======================================================================================
``roles``        roles and permissions as one table; no I/O
``lifetimes``    when links, sessions and tokens end; no I/O
``limits``       how often something may be tried; no I/O
``passwords``    argon2id, and which passwords are taken
``secret``       random secrets and their hashes
``address``      where the dashboard is reached, and which requests come from there; no I/O
``accounts``     people: invited, signed in, disabled; the links that let them in
``sessions``     browsers and scripts: sessions, API tokens, and the :class:`.roles.Principal` behind each
``oidc``         sign-in through an identity provider (OpenID Connect, code + PKCE)
===============  ======================================================================================

Secrets (links, cookies, tokens) have 256 random bits; the store holds only their SHA-256.
Who did what is in the audit trail (:mod:`.store.audit`).
"""
