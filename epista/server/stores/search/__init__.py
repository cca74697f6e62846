"""
Search, below the service: the grammar, what is indexed, and one index for each database.

Text and metadata are indexed in the transaction of the write that made them, so a put is found by the next search. `index`
states what a database has to offer; `sqlite` offers it. Who may see what comes in as a set of experiments and is part of
the SQL; this room knows no actors.
"""
