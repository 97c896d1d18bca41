"""Texts that a page could take for something else. Users, models, tags, end users and errors are called so."""

SCRIPT = "<script>window.attacked = 1</script>"
IMAGE = '"><img src=x onerror="window.attacked = 2">'
ATTRIBUTE = "' autofocus onfocus='window.attacked = 3' x='"
ADDRESS = "javascript:window.attacked=4"
TEMPLATE = "{{email}} {{{email}}} {{#users}}"
REVERSED = "\u202egnp.exe\u202c \u2067abc\u2069"
EMOJI = "🍵" * 255
WORD = "Muvaffakiyetsizleştiricileştiriveremeyebileceklerimizdenmişsinizcesine" * 3

ALL = (SCRIPT, IMAGE, ATTRIBUTE, ADDRESS, TEMPLATE, REVERSED, EMOJI, WORD)
