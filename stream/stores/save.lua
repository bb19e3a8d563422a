-- Write one checkpoint of a partition, or nothing.
--
-- Redis runs a script alone, but does not undo it: so every check, and every command that could
-- fail because of what is stored (a key of another type), comes before the first write. That first
-- write is one which Redis itself refuses when memory is full, the disk fails or the server is a
-- replica; once it has passed, Redis lets the rest of the script pass too.
--
-- KEYS: head, users, timers, chunks, versions.
-- ARGV: 1 schema version, 2 generation, 3 owner, 4 expected offsets, 5 next offsets (canonical
-- JSON), 6-11 numbers of arguments that follow of: users (key, blob), timers (key, due), users to
-- delete, timers to delete, chunks (name, data), chunks to delete.
-- Returns {'ok'}, {'repeated'}, {'newer', schema}, {'owner', generation, owner} or
-- {'offsets', offsets}.
local head, users, timers, chunks, versions = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local stored = redis.call('HMGET', head, 'schema', 'generation', 'owner', 'offsets')
if stored[1] and tonumber(stored[1]) > tonumber(ARGV[1]) then
  return {'newer', stored[1]}
end
if stored[2] ~= ARGV[2] or stored[3] ~= ARGV[3] then
  return {'owner', stored[2] or '', stored[3] or ''}
end
local offsets = stored[4] or '{}'
if offsets ~= ARGV[4] then
  if offsets == ARGV[5] then
    -- The same owner has written exactly this before, and did not hear the answer.
    return {'repeated'}
  end
  return {'offsets', offsets}
end
for i = 2, 5 do
  redis.call('HLEN', KEYS[i])
end

local version = redis.call('HINCRBY', head, 'saves', 1)
redis.call('HSET', head, 'schema', ARGV[1], 'offsets', ARGV[5])

local from = 12
-- Lua's stack holds some 8,000 values; an even step keeps pairs together.
local function each(command, key, count)
  local last = from + count - 1
  while from <= last do
    local to = math.min(from + 3999, last)
    redis.call(command, key, unpack(ARGV, from, to))
    from = to + 1
  end
end
each('HSET', users, tonumber(ARGV[6]))
each('HSET', timers, tonumber(ARGV[7]))
each('HDEL', users, tonumber(ARGV[8]))
each('HDEL', timers, tonumber(ARGV[9]))
local first = from
each('HSET', chunks, tonumber(ARGV[10]))
for i = first, from - 1, 2 do
  redis.call('HSET', versions, ARGV[i], version)
end
first = from
each('HDEL', chunks, tonumber(ARGV[11]))
for i = first, from - 1 do
  redis.call('HDEL', versions, ARGV[i])
end
return {'ok'}
