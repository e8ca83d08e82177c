"""The store on Redis, for sessions beyond one machine: `connect` reaches it, each port has a file."""
