-- What a script can use beside the plain language: JSON, times, the log, metatables and the like. Puts it into `env` and
-- gives the function that packs the log for the host.

local env, now_ms, random, box = ...
local DATA, IS_NULL, LIST, MARKS, MEMORY, SHA256, DEEPEST = box.DATA, box.IS_NULL, box.LIST, box.MARKS, box.MEMORY, box.SHA256, box.DEEPEST
local char, clock, concat, decode, encode_text, error, floor, format, gsub =
  box.char, box.clock, box.concat, box.decode, box.encode_text, box.error, box.floor, box.format, box.gsub
local listed, metatable_of, os_date, os_difftime, os_time, pack, part, pcall =
  box.listed, box.metatable_of, box.os_date, box.os_difftime, box.os_time, box.pack, box.part, box.pcall
local rawequal, rawget, rawset, rep, replace_metatable, select, setmetatable =
  box.rawequal, box.rawget, box.rawset, box.rep, box.replace_metatable, box.select, box.setmetatable
local sub, tonumber, tostring, type, unpack_bytes = box.sub, box.tonumber, box.tostring, box.type, box.unpack_bytes

local started_ms, started_clock = tonumber(now_ms), clock()

-- SHA-256, and what stands on it ----------------------------------------------------------------------------------

local sha256_loaded

local function sha256(message)
  sha256_loaded = sha256_loaded or part(SHA256, char, format, gsub, rep, sub, pack, unpack_bytes, tonumber)
  return sha256_loaded(message)
end

local ids = 0
local entropy = sub(random, 1, 32) -- bytes that no script can guess

local function uuid()
  ids = ids + 1
  local hex = sha256(entropy .. pack(">I8", ids))
  return format("%s-%s-4%s-%x%s-%s", sub(hex, 1, 8), sub(hex, 9, 12), sub(hex, 14, 16),
    8 | tonumber(sub(hex, 17, 17), 16) & 3, sub(hex, 18, 20), sub(hex, 21, 32))
end

-- JSON and the log ------------------------------------------------------------------------------------------------

-- Raises `problem` as an error of the script's line that called the box.
local function blame(problem)
  if problem == MEMORY then error(problem, 0) end
  error(problem, 3)
end

local function json_encode(value)
  local ok, result = encode_text(value, "the value")
  if ok then return result end
  if result == MEMORY then error(result, 0) end
  blame("json.encode: " .. result)
end

local function json_decode(source)
  if type(source) ~= "string" then blame("json.decode: a string is needed, not " .. type(source)) end
  local ok, value = pcall(decode, source, DEEPEST)
  if ok then return value end
  if value == MEMORY then error(value, 0) end
  blame("json.decode: " .. value)
end

local lines, n_lines, dropped = {}, 0, 0
local MOST_LINES, LONGEST_LINE = 200, 2000

local function log(...)
  if n_lines >= MOST_LINES then
    dropped = dropped + 1
    return
  end
  local words, count = {...}, select("#", ...)
  for i = 1, count do
    local word = words[i]
    if type(word) == "table" then
      local ok, json = encode_text(word, "the value")
      if not ok and json == MEMORY then error(json, 0) end
      word = ok and json or "(a table: " .. json .. ")"
    elseif type(word) ~= "string" then
      word = tostring(word)
    end
    words[i] = sub(word, 1, LONGEST_LINE + 1)
  end
  local line = concat(words, " ", 1, count)
  if #line > LONGEST_LINE then line = sub(line, 1, LONGEST_LINE) .. "…" end
  n_lines = n_lines + 1
  lines[n_lines] = line
end

-- The lines for the host: each with its length before it, since they may hold anything.
local function packed_log()
  if n_lines == 0 then return "" end
  if dropped > 0 then lines[n_lines + 1] = format("(%d more lines were dropped)", dropped) end
  for i = 1, #lines do lines[i] = pack("<s4", lines[i]) end
  return concat(lines)
end

-- Tables ----------------------------------------------------------------------------------------------------------

local function set_metatable(value, meta)
  if type(value) ~= "table" then blame("setmetatable: a table is needed, not " .. type(value)) end
  if meta ~= nil and type(meta) ~= "table" then blame("setmetatable: the metatable must be a table or nil, not " .. type(meta)) end
  if IS_NULL[value] then blame("null cannot be changed") end
  local present = metatable_of(value)
  if rawequal(present, DATA) then blame("the metatable of data cannot be changed") end
  if meta then
    if rawget(meta, "__gc") ~= nil then blame("setmetatable: __gc (a finaliser) is not available here") end
    if IS_NULL[meta] then blame("null cannot be a metatable") end
  end
  if rawequal(present, LIST) then
    if meta == nil then return value end
    listed[value] = true
    return replace_metatable(value, meta)
  end
  if present and rawget(present, "__metatable") ~= nil then blame("cannot change a protected metatable") end
  if meta == nil and listed[value] then meta = LIST end -- its own metatable goes, the list stays one
  return setmetatable(value, meta)
end

local function get_metatable(value)
  if type(value) ~= "table" then return nil end -- those of strings and the like are the host's
  local meta = metatable_of(value)
  if not meta or IS_NULL[value] or MARKS[meta] then return nil end
  local shown = rawget(meta, "__metatable")
  if shown ~= nil then return shown end
  return meta
end

local function raw_set(value, key, new)
  if type(value) ~= "table" then blame("rawset: a table is needed, not " .. type(value)) end
  if IS_NULL[value] then blame("null cannot be changed") end
  if key == nil then blame("rawset: the index is nil") end
  if key ~= key then blame("rawset: the index is NaN") end
  return rawset(value, key, new)
end

local function array(list)
  if list == nil then list = {} end
  if type(list) ~= "table" or IS_NULL[list] then blame("array: a table is needed, as in array{1, 2}") end
  local meta = metatable_of(list)
  if not meta then
    setmetatable(list, LIST)
  elseif not MARKS[meta] then
    listed[list] = true
  end
  return list
end

-- Times -----------------------------------------------------------------------------------------------------------

-- Milliseconds since 1970, for all that tells the time: C's own clock of whole seconds (`os.time`, and `os.date` without a
-- time) may lag by a tick of the kernel, so that it would tell the second before the one in which the call was made.
local function moment()
  local ms = started_ms + floor((clock() - started_clock) * 1000)
  local seconds = os_time()
  return ms // 1000 < seconds and seconds * 1000 or ms
end

local function now()
  local ms = moment()
  return format("%s.%03dZ", os_date("!%Y-%m-%dT%H:%M:%S", ms // 1000), ms % 1000)
end

local function time(fields)
  if fields == nil then return moment() // 1000 end
  return os_time(fields)
end

-- The process has TZ=UTC, so local time is UTC and `os.time{...}` reads its fields as UTC.
local function date(pattern, seconds)
  if pattern == nil then pattern = "%c" end
  if type(pattern) ~= "string" then blame("date: the format must be a string, not " .. type(pattern)) end
  if seconds == nil then seconds = moment() // 1000 end
  local ok, result = pcall(os_date, pattern, seconds)
  if ok then return result end
  blame((gsub(result, "^bad argument #(%d) to '%?' ", "date: bad argument #%1 ")))
end

local function hash(value)
  if type(value) == "number" then value = tostring(value) end
  if type(value) ~= "string" then blame("hash: a string is needed, not " .. type(value)) end
  return sha256(value)
end

env._G = env
env.getmetatable, env.setmetatable, env.rawset, env.array = get_metatable, set_metatable, raw_set, array
env.os = {clock = function() return clock() - started_clock end, date = date, difftime = os_difftime, time = time}
env.json = {decode = json_decode, encode = json_encode}
env.date, env.hash, env.log, env.now, env.print, env.time, env.uuid = date, hash, log, now, log, time, uuid

return packed_log
