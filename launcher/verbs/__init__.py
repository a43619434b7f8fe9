"""What elrun does when its first word is a verb; each is imported when it is used."""
