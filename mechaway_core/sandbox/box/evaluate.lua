-- The call `evaluate`: expressions over rows of arguments, written as a list of rows of values; a row in which one failed
-- is a text that says why.

local box = ...
local IS_NULL, MEMORY, concat, env, error, escape, format, gsub, ipairs, load, pcall, unpack, with_line =
  box.IS_NULL, box.MEMORY, box.concat, box.env, box.error, box.escape, box.format, box.gsub, box.ipairs, box.load, box.pcall, box.unpack,
  box.with_line
local put, write, mark, go_back, flush = box.put, box.write, box.mark, box.go_back, box.flush

local function expression(source, parameters, name)
  local names = {}
  for i = 1, parameters do names[i] = "p" .. i end
  local head = parameters > 0 and "local " .. concat(names, ",") .. " = ... return " or "return "
  local chunk, problem = load(head .. source, "=expression", "t", env)
  if chunk then return chunk end
  if problem == MEMORY then error(problem, 0) end
  return function() error(problem, 0) end
end

local function one_row(row, compiled, counts, at)
  local separator = "["
  for e = 1, #compiled do
    at[1] = e
    local arguments = row[e]
    local count = counts[e]
    for i = 1, count do
      if IS_NULL[arguments[i]] then arguments[i] = nil end
    end
    local value = compiled[e](unpack(arguments, 1, count))
    put(separator)
    separator = ","
    write(value)
  end
  put("]")
end

local function failed_row(problem, name)
  local message = problem
  if problem ~= MEMORY then
    local _, line, plain = with_line(problem, "expression")
    message = line and line ~= "1" and format("%s, line %s: %s", name, line, plain) or name .. ": " .. plain
  end
  message = escape(message) or escape((gsub(message, "[\128-\255]", "?")))
  put('"' .. message .. '"')
end

return function(sources, rows)
  local compiled, counts, names, at = {}, {}, {}, {}
  for e, one in ipairs(sources) do
    compiled[e], counts[e], names[e] = expression(one[1], one[2], one[3]), one[2], one[3]
  end
  box.begin()
  put("[")
  for r = 1, #rows do
    if r > 1 then put(",") end
    local before = mark()
    local ok, problem = pcall(one_row, rows[r], compiled, counts, at)
    rows[r] = false -- let its memory go
    if not ok then
      go_back(before)
      failed_row(problem, names[at[1]])
    end
    if mark() > 4000 then flush() end
  end
  put("]")
  flush()
  return box.pieces()
end
