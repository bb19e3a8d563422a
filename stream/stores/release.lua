-- Give a partition up: keep the generation, clear the owner; nothing if somebody else owns it.
-- KEYS: head, users, timers, chunks, versions. ARGV: generation, owner.
local stored = redis.call('HMGET', KEYS[1], 'generation', 'owner')
if stored[1] == ARGV[1] and stored[2] == ARGV[2] then
  redis.call('HSET', KEYS[1], 'owner', '')
end
return {'ok'}
