"""Helpers of the six notebooks: the idea stays visible there, what keeps it honest lives here."""
