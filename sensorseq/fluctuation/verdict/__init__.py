"""From statistics to a verdict, as statements."""
