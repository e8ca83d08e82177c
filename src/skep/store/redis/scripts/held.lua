-- Returns the time of this server, ms, and all names with their leases.
return {string.format('%.0f', now), held()}
