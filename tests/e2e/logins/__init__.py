"""People log in with passwords, LDAP and OpenID Connect, also in a real browser."""

START = "deployed"
MINUTES = 15
# The first of the two with a server installs what both need; the last one goes back to passwords.
ORDER = ("test_passwords", "test_ldap", "test_oidc")
