-- What wrk sends: `GET /promotions/<id>` with one id of a file of draws after the other.
-- Arguments: the file, the first draw, how many draws each thread has, and a header line or nothing.

local threads = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

local prefix, suffix, ids
local at, last = 1, 0
local sub = string.sub

function init(args)
  local each = tonumber(args[3])
  local file = assert(io.open(args[1], "rb"))
  assert(file:seek("set", (tonumber(args[2]) + number * each) * 36))
  ids = assert(file:read(each * 36))
  file:close()
  last = #ids - 35
  local header = args[4] and args[4] .. "\r\n" or ""
  prefix = "GET /promotions/"
  suffix = " HTTP/1.1\r\nHost: 127.0.0.1:" .. wrk.port .. "\r\n" .. header .. "\r\n"
end

function request()
  local id = sub(ids, at, at + 35)
  at = at + 36
  if at > last then at = 1 end
  return prefix .. id .. suffix
end

function done(summary, latency)
  local errors = summary.errors
  print(string.format(
    "measured requests=%d duration=%d p50=%d p90=%d p99=%d p99.9=%d max=%d connect=%d read=%d write=%d timeout=%d status=%d",
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(90), latency:percentile(99),
    latency:percentile(99.9), latency.max, errors.connect, errors.read, errors.write, errors.timeout, errors.status
  ))
end
