-- The live queue of one shop: who waits, who is on duty, and which sessions each agent holds. `routing.lua`, which is
-- loaded before it, chooses between agents.
--
-- A projection of PostgreSQL, which is the truth. Every row comes with its version and an older one changes nothing, so
-- calls may be repeated and may come in any order. A proposal takes a place for a session before PostgreSQL
-- knows; it ends when a newer version of the session arrives, or when it is withdrawn.
--
-- KEYS[1]  `session:{<tenant>}`, the prefix of all keys of the shop; the braces keep them on one node of a cluster
-- ARGV[1]  the operation: project, snapshot, positions, untell
-- ARGV[2]  its arguments in JSON. Ids are strings: they do not fit into Lua's numbers.
--
-- <shop>:epoch          is there once the queue has been built; missing after a wipe
-- <shop>:queue          sorted set of waiting sessions, by when a person was asked for (µs)
-- <shop>:sessions       set of the sessions that wait or take a place
-- <shop>:session:<id>   hash: version, order, agent (who it takes a place of), proposed (when, µs; only while proposed)
-- <shop>:agents         set of all agents
-- <shop>:agent:<id>     hash: version, status, capacity, assigned (when last, µs), rank (its member of `free`, if any)
-- <shop>:free           sorted set of the agents with a free place, by `routing.rank`: the index that is chosen from
-- <shop>:seats:<id>     set of the sessions that take the agent's places; its size is the load, so that it cannot drift
-- <shop>:told           hash: session -> the position its customer was told last

local shop = KEYS[1]
local given = cjson.decode(ARGV[2])

local QUEUE, SESSIONS, AGENTS, FREE = shop .. ':queue', shop .. ':sessions', shop .. ':agents', shop .. ':free'
local EPOCH, TOLD = shop .. ':epoch', shop .. ':told'
local WAITING, ENDED = 2, 5
-- An ended session is remembered for so long, so that a late call cannot bring it back.
local REMEMBERED_S = 3600

local function session_key(id) return shop .. ':session:' .. id end
local function agent_key(id) return shop .. ':agent:' .. id end
local function seats_key(id) return shop .. ':seats:' .. id end

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

-- Numbers above 2^31 are not written as integers by Lua's own conversion.
local function whole(number) return string.format('%.0f', number) end

-- Bring an agent's place in the index up to date, after its row or its load has changed.
local function index(id)
  local key = agent_key(id)
  local known = redis.call('HMGET', key, 'status', 'capacity', 'assigned', 'rank')
  if known[4] then redis.call('ZREM', FREE, known[4]) end
  local load = redis.call('SCARD', seats_key(id))
  if routing.takes(tonumber(known[1] or '0'), tonumber(known[2] or '0'), load) then
    local rank = routing.rank(id, load, tonumber(known[3] or '0'))
    redis.call('ZADD', FREE, 0, rank)
    redis.call('HSET', key, 'rank', rank)
  elseif known[4] then
    redis.call('HDEL', key, 'rank')
  end
end

local function seat(id, agent)
  redis.call('HSET', session_key(id), 'agent', agent)
  redis.call('SADD', seats_key(agent), id)
  index(agent)
end

local function vacate(id)
  local agent = redis.call('HGET', session_key(id), 'agent')
  if agent then
    redis.call('SREM', seats_key(agent), id)
    index(agent)
  end
  redis.call('HDEL', session_key(id), 'agent', 'proposed')
  redis.call('ZREM', QUEUE, id)
end

local function project_session(session)
  local key = session_key(session.id)
  local known = redis.call('HMGET', key, 'version', 'proposed')
  local version = tonumber(known[1] or '-1')
  if session.version < version or (session.version == version and known[2]) then return end
  vacate(session.id)
  redis.call('HSET', key, 'version', whole(session.version))
  if session.state == ENDED then
    redis.call('SREM', SESSIONS, session.id)
    redis.call('HDEL', TOLD, session.id)
    redis.call('EXPIRE', key, REMEMBERED_S)
    return
  end
  redis.call('SADD', SESSIONS, session.id)
  redis.call('HSET', key, 'order', whole(session.order))
  if session.state == WAITING then
    redis.call('ZADD', QUEUE, whole(session.order), session.id)
  else
    seat(session.id, session.agent)
    redis.call('HDEL', TOLD, session.id)
  end
end

local function project_agent(agent)
  local key = agent_key(agent.id)
  if agent.version < tonumber(redis.call('HGET', key, 'version') or '-1') then return end
  local assigned = math.max(agent.assigned, tonumber(redis.call('HGET', key, 'assigned') or '0'))
  redis.call('SADD', AGENTS, agent.id)
  redis.call('HSET', key, 'version', whole(agent.version), 'status', agent.status, 'capacity', agent.capacity, 'assigned', whole(assigned))
  index(agent.id)
end

local function withdraw(proposal)
  local known = redis.call('HMGET', session_key(proposal.id), 'version', 'agent', 'proposed', 'order')
  if not known[3] or known[2] ~= proposal.agent or tonumber(known[1]) ~= proposal.version then return end
  vacate(proposal.id)
  redis.call('ZADD', QUEUE, known[4], proposal.id)
end

local function propose()
  local proposals, time = {}, now()
  while true do
    local id, first = redis.call('ZRANGE', QUEUE, 0, 0)[1], redis.call('ZRANGE', FREE, 0, 0)[1]
    if not id or not first then break end
    local agent = routing.agent_of(first)
    -- Distinct times keep the turns of agents who are given sessions by one and the same call.
    time = time + 1
    redis.call('ZREM', QUEUE, id)
    redis.call('HDEL', TOLD, id)
    redis.call('HSET', session_key(id), 'proposed', whole(time))
    redis.call('HSET', agent_key(agent), 'assigned', whole(time))
    seat(id, agent)
    proposals[#proposals + 1] = {id, redis.call('HGET', session_key(id), 'version'), agent}
  end
  return proposals
end

local function clear()
  redis.call('DEL', EPOCH, QUEUE, TOLD, FREE)
  for _, id in ipairs(redis.call('SMEMBERS', SESSIONS)) do redis.call('DEL', session_key(id)) end
  for _, id in ipairs(redis.call('SMEMBERS', AGENTS)) do redis.call('DEL', agent_key(id), seats_key(id)) end
  redis.call('DEL', SESSIONS, AGENTS)
end

local operations = {}

-- Takes over rows and, unless more are to follow, proposes offers. `clear` and `epoch` begin and end a rebuild; without
-- either, a queue that was not built gives nil and is not touched.
function operations.project()
  if given.clear then clear() end
  if not given.building and redis.call('EXISTS', EPOCH) == 0 then return nil end
  for _, proposal in ipairs(given.withdrawn) do withdraw(proposal) end
  for _, agent in ipairs(given.agents) do project_agent(agent) end
  for _, session in ipairs(given.sessions) do project_session(session) end
  if given.epoch then redis.call('SET', EPOCH, given.epoch) end
  if given.more or given.building then return {} end
  return propose()
end

-- All sessions that are known to be live, and the proposals that nobody has carried out for too long.
function operations.snapshot()
  if redis.call('EXISTS', EPOCH) == 0 then return nil end
  local sessions, stale, limit = redis.call('SMEMBERS', SESSIONS), {}, now() - given.stale_us
  for _, id in ipairs(sessions) do
    local known = redis.call('HMGET', session_key(id), 'version', 'agent', 'proposed')
    if known[3] and tonumber(known[3]) <= limit then stale[#stale + 1] = {id, known[1], known[2]} end
  end
  return {sessions, stale}
end

-- The first sessions of the queue whose position is another than was told last; takes them for told.
function operations.positions()
  local changed = {}
  for position, id in ipairs(redis.call('ZRANGE', QUEUE, 0, given.limit - 1)) do
    if redis.call('HGET', TOLD, id) ~= tostring(position) then
      redis.call('HSET', TOLD, id, position)
      changed[#changed + 1] = {id, position}
    end
  end
  return changed
end

-- The telling failed: they are told again the next time.
function operations.untell()
  for _, id in ipairs(given.sessions) do redis.call('HDEL', TOLD, id) end
  return {}
end

return operations[ARGV[1]]()
