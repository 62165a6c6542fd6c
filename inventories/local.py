"""This machine. Settings go into the dictionary; README.md lists them all."""

hosts = [
    (
        "@local",
        {
            # Needed where you are not root: "_sudo": True,
        },
    )
]
