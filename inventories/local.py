"""This machine. Settings go into the dictionary; README.md beside this file lists them."""

hosts = [
    (
        "@local",
        {
            # Needed where you are not root: "_sudo": True,
        },
    )
]
