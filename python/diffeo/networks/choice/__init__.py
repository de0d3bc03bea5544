"""Which neurons of a layer embed the input: the search for a set of them.

In order: set_search.
"""
