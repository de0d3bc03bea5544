"""Every pair of many networks compared by workers, on one machine or on a cluster, from which a killed run goes on.

In order: packed -> tasks -> checkpoint -> plan, stored -> compare_all.
"""
