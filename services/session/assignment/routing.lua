-- The policy of routing: which agent gets the session at the head of the queue. Pure functions; `live_queue.lua` keeps
-- an index of the agents who take sessions, ordered by `rank`, and takes the first.

local routing = {}

-- octopus.session.v1.AgentStatus
local AVAILABLE = 1

-- Whether an agent takes one more session.
function routing.takes(status, capacity, load)
  return status == AVAILABLE and load < capacity
end

-- The order of agents, as text: the least loaded first; among equals the one who was given a session longest ago
-- (`assigned`, µs).
function routing.rank(id, load, assigned)
  return string.format('%06d:%020.0f:%s', load, assigned, id)
end

-- The agent of a rank.
function routing.agent_of(rank)
  return string.match(rank, '([^:]*)$')
end

