-- Return a partition's chunks under a prefix whose version the caller does not hold.
-- KEYS: head, users, timers, chunks, versions.
-- ARGV: schema version, prefix, then (name, known version) pairs.
-- Returns {'ok', name, version, data, ...} or {'newer', schema}.
local schema = redis.call('HGET', KEYS[1], 'schema')
if schema and tonumber(schema) > tonumber(ARGV[1]) then
  return {'newer', schema}
end
local prefix = ARGV[2]
local known = {}
for i = 3, #ARGV, 2 do
  known[ARGV[i]] = ARGV[i + 1]
end
local reply = {'ok'}
local versions = redis.call('HGETALL', KEYS[5])
for i = 1, #versions, 2 do
  local name, version = versions[i], versions[i + 1]
  if string.sub(name, 1, #prefix) == prefix and known[name] ~= version then
    reply[#reply + 1] = name
    reply[#reply + 1] = version
    reply[#reply + 1] = redis.call('HGET', KEYS[4], name)
  end
end
return reply
