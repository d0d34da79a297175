;; Logs lines of 10 MB.
;; culprits: none
;; limit: memory 16777216
;; limit: deadline 10000ms
(func $on_null (param $row i32)
  (local $left i32)
  (drop (memory.grow (i32.const 160)))
  (memory.fill (i32.const 65536) (i32.const 97) (i32.const 10000000))
  (local.set $left (i32.const 50))
  (loop $next
    (call $log (i32.const 3) (i32.const 65536) (i32.const 10000000))
    (br_if $next (local.tee $left (i32.sub (local.get $left) (i32.const 1))))))
