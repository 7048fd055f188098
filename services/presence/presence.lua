-- Who is connected, as the instances of chat report it. Times are in milliseconds of this server's clock.
--
-- KEYS[1]  the prefix of all keys; its braces keep them on one node of a cluster
-- ARGV[1]  the operation: report, lose, read, staff
-- ARGV[2]  its arguments in JSON
--
-- <prefix>:instances      sorted set of the instances, by when each reported last
-- <prefix>:since          since when some instance has always been reporting
-- <prefix>:on:<instance>  hash: `#` is the number of the last report; <shop>/<user> the person's devices in JSON
-- <prefix>:left:<shop>    sorted set of persons, by when a stream of theirs was last seen to end
-- <prefix>:staff:<shop>   sorted set of the shop's staff, by when they last came or went
--
-- All of it expires when nobody reports any more. Whether somebody is there is never decided by an expiry.

local prefix = KEYS[1]
local given = cjson.decode(ARGV[2])
local INSTANCES, SINCE = prefix .. ':instances', prefix .. ':since'
-- What an instance holds outlives its silence by far: `lose` notes first who was connected to it.
local HELD_MS, REMEMBERED_MS = 3600 * 1000, 30 * 24 * 3600 * 1000

local function whole(number) return string.format('%.0f', number) end
local function held_key(instance) return prefix .. ':on:' .. instance end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- The sets that this call adds to; `forget` trims each once at its end, however many persons were added.
local touched = {}

local function remember(key, user)
  redis.call('ZADD', key, whole(now), user)
  touched[key] = true
end

local function forget()
  for key in pairs(touched) do
    redis.call('ZREMRANGEBYSCORE', key, '-inf', whole(now - REMEMBERED_MS))
    redis.call('PEXPIRE', key, REMEMBERED_MS)
  end
end

local function left(person)
  local at = string.find(person, '/', 1, true)
  remember(prefix .. ':left:' .. string.sub(person, 1, at - 1), string.sub(person, at + 1))
end

local function reporting()
  return redis.call('ZCOUNT', INSTANCES, whole(now - given.lost_ms), '+inf') > 0
end

local operations = {}

-- Takes over a report; gives 1 when it does not follow on what is known.
function operations.report()
  local held = held_key(given.instance)
  local known = tonumber(redis.call('HGET', held, '#') or '-1')
  if given.first then
    if given.sequence <= known then return 1 end
    for _, person in ipairs(redis.call('HKEYS', held)) do
      if person ~= '#' then left(person) end
    end
    redis.call('DEL', held)
  elseif given.sequence ~= known + 1 then
    return 1
  end
  for _, person in ipairs(given.gone) do
    if redis.call('HDEL', held, person) == 1 then left(person) end
  end
  for person, devices in pairs(given.here) do redis.call('HSET', held, person, devices) end
  for _, each in ipairs(given.staff) do remember(prefix .. ':staff:' .. each[1], each[2]) end
  redis.call('HSET', held, '#', whole(given.sequence))
  redis.call('PEXPIRE', held, HELD_MS)
  if not reporting() then redis.call('SET', SINCE, whole(now)) end
  redis.call('PEXPIRE', SINCE, REMEMBERED_MS)
  redis.call('ZADD', INSTANCES, whole(now), given.instance)
  redis.call('PEXPIRE', INSTANCES, REMEMBERED_MS)
  return 0
end

-- Gives up one instance that has been silent for too long: whoever was connected to it has left now. Some persons in one
-- call, for a script blocks all others. Gives its name once nobody is left, and nothing but "" before.
function operations.lose()
  local silent = redis.call('ZRANGEBYSCORE', INSTANCES, '-inf', '(' .. whole(now - given.lost_ms), 'LIMIT', 0, 1)[1]
  if not silent then return nil end
  local held = held_key(silent)
  -- When it reports after all, it begins again.
  redis.call('HDEL', held, '#')
  local persons = redis.call('HKEYS', held)
  for number = 1, math.min(#persons, given.most) do
    left(persons[number])
    redis.call('HDEL', held, persons[number])
  end
  if #persons > given.most then return '' end
  redis.call('ZREM', INSTANCES, silent)
  return silent
end

-- The moment, whether anybody reports, since when, and of each person the devices by instance and when they left.
function operations.read()
  local instances, answer = redis.call('ZRANGE', INSTANCES, 0, -1), {}
  for _, user in ipairs(given.users) do
    local devices = {}
    for _, instance in ipairs(instances) do
      local found = redis.call('HGET', held_key(instance), given.tenant .. '/' .. user)
      if found then devices[#devices + 1] = found end
    end
    answer[#answer + 1] = {devices, redis.call('ZSCORE', prefix .. ':left:' .. given.tenant, user) or ''}
  end
  return {whole(now), reporting() and 1 or 0, redis.call('GET', SINCE) or whole(now), answer}
end

-- The shop's staff, the latest first.
function operations.staff()
  return redis.call('ZREVRANGE', prefix .. ':staff:' .. given.tenant, 0, given.limit - 1)
end

local answer = operations[ARGV[1]]()
forget()
return answer
