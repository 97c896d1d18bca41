-- The load of `make bench`: requests from a template whose holes get new values for each event.
--
--   wrk --script scripts/wrk.lua URL -- REQUEST PEOPLE PREFIX MAXIMUM-AGE
--
-- REQUEST is a file with a whole HTTP request. A hole in it is the byte 1 and a letter (EventTemplate in Tools/Bench).
-- PEOPLE is a file with a user's id and the hash of the user's key in each line. PREFIX makes ids unique. MAXIMUM-AGE
-- is in seconds.
dofile((debug.getinfo(1, "S").source:sub(2):gsub("wrk%.lua$", "wrk-report.lua")))

local ffi = require("ffi")
ffi.cdef("typedef struct { long seconds; long microseconds; } bench_time; int gettimeofday(bench_time *, void *);")

local threads = 0

function setup(thread)
    thread:set("number", threads)
    threads = threads + 1
end

local pieces, places, letters, values = {}, {}, {}, {}
local people, turn, count, id_format, maximum_age = {}, 0, 0, "", 0
local time = ffi.new("bench_time")

local function contents(path)
    local file = assert(io.open(path, "rb"))
    local text = file:read("*a")
    file:close()
    return text
end

function init(arguments)
    local request = contents(arguments[1])
    for line in contents(arguments[2]):gmatch("[^\n]+") do
        local id, hash = line:match("(%d+) (%x+)")
        people[#people + 1] = {id, hash, string.format("cf_%064d", tonumber(id))}
    end
    id_format = string.format("%s-%04x-%%012x", arguments[3], number)
    maximum_age = tonumber(arguments[4])

    local start = 1
    while true do
        local hole = request:find("\1", start, true)
        pieces[#pieces + 1] = request:sub(start, (hole or 0) - 1)
        if not hole then break end
        pieces[#pieces + 1] = ""
        places[#places + 1] = #pieces
        letters[#letters + 1] = request:sub(hole + 1, hole + 1)
        start = hole + 2
    end
end

local function next_event(now)
    count = count + 1
    turn = turn % #people + 1
    local person = people[turn]
    local start = now - math.random() * maximum_age
    values.I = string.format(id_format, count)
    values.U, values.H, values.K = person[1], person[2], person[3]
    values.S = string.format("%.6f", start - 1.25)
    values.E = string.format("%.6f", start)
end

function request()
    ffi.C.gettimeofday(time, nil)
    local now = tonumber(time.seconds) + tonumber(time.microseconds) / 1e6
    for i = 1, #places do
        local letter = letters[i]
        if letter == "N" then
            next_event(now)
        else
            pieces[places[i]] = values[letter]
        end
    end
    return table.concat(pieces)
end
