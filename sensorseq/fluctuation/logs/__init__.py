"""Histories that other programs wrote, as rows with our column names; numpy is all they need."""
