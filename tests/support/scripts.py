"""Scripts for servers of any age."""

from __future__ import annotations

BUSY = """
local has_clock, clock = pcall(function() return os.clock end)
if not has_clock then  -- Redis 7.0; where there is a clock, TIME stands still in a script
  clock = function()
    local now = redis.call('TIME')
    return now[1] + now[2] / 1000000
  end
end
local began = clock()
while clock() - began < tonumber(ARGV[1]) do end
return 1
"""
"""Keeps the server busy for ``ARGV[1]`` seconds."""
