"""The server behind `pixmend serve`: one model, a queue with fair turns, and a page to paint on."""
