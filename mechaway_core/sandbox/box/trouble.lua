-- An error, for people.

local encode_text, find, format, match, rawget, sub, tostring, type = ...

local function describe(problem)
  local kind = type(problem)
  if kind == "string" then return problem end
  if kind == "table" then
    local message = rawget(problem, "message")
    if type(message) == "string" then return message end
    local ok, json = encode_text(problem, "error")
    return ok and json or "an error that is a table"
  end
  if kind == "function" or kind == "thread" or kind == "userdata" then return "an error that is a " .. kind end
  return tostring(problem)
end

-- Raises `problem` as an error of the script's line that called the box.

-- "name:3: text" as "line 3: text".
return function(problem, name)
  local text_of_problem = sub(describe(problem), 1, 2000)
  local prefix = name .. ":"
  if sub(text_of_problem, 1, #prefix) == prefix then
    local line, message = match(text_of_problem, "^(%d+): (.*)$", #prefix + 1)
    if line then return format("line %s: %s", line, message), line, message end
  end
  return text_of_problem, nil, text_of_problem
end
