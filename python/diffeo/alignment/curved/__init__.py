"""Where the domain is curved: the samples of one manifold placed on another, a `Registration`.

In order: atlas, eigenmatch -> placement -> registration.
"""
