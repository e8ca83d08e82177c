"""The one event loop: sessions, performing, the owner of a state folder."""
