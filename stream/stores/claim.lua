-- Take a partition and return its head, or say why not.
-- KEYS: head, users, timers, chunks, versions.
-- ARGV: schema version of the program, generation, owner, '1' to force.
-- Returns {'ok', offsets, length of a user key, timers, chunks as field/value pairs},
-- {'newer', schema} or {'refused', generation}. Timers are one string of (key, due) without
-- separators, which a client cuts 5 times faster than it reads 200,000 strings; field/value pairs,
-- and length 0, if the keys are not of one length.
local stored = redis.call('HMGET', KEYS[1], 'schema', 'generation', 'offsets')
if stored[1] and tonumber(stored[1]) > tonumber(ARGV[1]) then
  return {'newer', stored[1]}
end
if ARGV[4] ~= '1' and stored[2] and tonumber(ARGV[2]) < tonumber(stored[2]) then
  return {'refused', stored[2]}
end
-- Reads first: a key of another type must fail before anything is written.
redis.call('HLEN', KEYS[2])
redis.call('HLEN', KEYS[5])
local timers = redis.call('HGETALL', KEYS[3])
local chunks = redis.call('HGETALL', KEYS[4])
redis.call('HSET', KEYS[1], 'schema', ARGV[1], 'generation', ARGV[2], 'owner', ARGV[3])
-- Nothing to delete: it shows now, not in the middle of a save, that the user may call HDEL.
redis.call('HDEL', KEYS[1], '-')
local length = timers[1] and #timers[1] or 0
for i = 3, #timers, 2 do
  if #timers[i] ~= length then
    length = 0
  end
end
if length > 0 then
  timers = table.concat(timers)
end
return {'ok', stored[3] or '{}', length, timers, chunks}
