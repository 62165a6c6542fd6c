"""DAGs as people write them: plugins, operators, sensors, assets, mails, forced ends; and LDAP."""

START = "deployed"
MINUTES = 20
ORDER = ("test_operators", "test_logins")
