"""Finding what is remembered: by words and by meaning, in one SQLite file beside the store that may be deleted at any time.

`index.Index` is the port `Finder`. `terms` says what a word is, `texts` what of an entry can be found, `words` finds by BM25,
`meaning` by vectors, `fused` makes one list of both. Embedders are chosen by name (`embedders`).
"""
