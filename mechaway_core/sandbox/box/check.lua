-- The call `check`: compiles and runs nothing. Sources come as kind and source, answers go as line and message, texts with their length before them.

local load, find, concat, pack, unpack_bytes, tonumber, env, MEMORY, with_line = ...

return function(packed)
  local position, length, answers, count = 1, #packed, {}, 0
  local kind, source
  while position <= length do
    kind, source, position = unpack_bytes("<s4s4", packed, position)
    local chunk, problem = load("return " .. source, "=source", "t", env)
    if kind == "expression" then
      if chunk then -- is it exactly one expression?
        chunk = load("return (" .. source .. "\n)", "=source", "t", env)
        problem = not find(source, "%S") and "there is no expression" or "this is not one expression"
      end
    elseif not chunk and problem ~= MEMORY then
      chunk, problem = load(source, "=source", "t", env)
    end
    count = count + 1
    if chunk then
      answers[count] = "\0"
    else
      local line, message
      if problem == MEMORY then
        message = "the source is too large to compile"
      else
        local _
        _, line, message = with_line(problem, "source")
      end
      answers[count] = "\1" .. pack("<I4s4", tonumber(line) or 0, message)
    end
  end
  return {concat(answers)}
end
