-- Delete a partition's state. The counter of saves stays: a version of a contribution that a
-- reader knows must not come back with other content.
-- KEYS: head, users, timers, chunks, versions.
redis.call('HDEL', KEYS[1], 'schema', 'generation', 'owner', 'offsets')
for i = 2, 5 do
  redis.call('UNLINK', KEYS[i])
end
return {'ok'}
