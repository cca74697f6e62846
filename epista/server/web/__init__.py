"""Pages for people: rendered on the server, readable without JavaScript, with plain modules and no build step."""
