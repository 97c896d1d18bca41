-- Prints the result of wrk as a line of JSON, which WrkReport of Tools/Bench reads. Alone it is the script of reads.
function done(summary, latency)
    local errors = summary.errors
    print(string.format(
        '{"requests":%d,"seconds":%.6f,"mean":%.3f,"median":%.3f,"percentile99":%.3f,"failures":%d}',
        summary.requests, summary.duration / 1e6, latency.mean / 1e3, latency:percentile(50) / 1e3,
        latency:percentile(99) / 1e3,
        errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
