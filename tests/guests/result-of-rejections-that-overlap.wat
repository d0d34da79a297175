;; Answers with 100 rejections whose details all are the same 1 MiB.
;; expect: handed over more than the 64MiB of rule.guest.result
(func $on_null (param $row i32)
  (local $left i32)
  (drop (memory.grow (i32.const 20)))
  (memory.fill (i32.const 65536) (i32.const 97) (i32.const 1048576))
  (local.set $left (i32.const 100))
  (loop $next
    (call $reject (local.get $row) (i32.const 0) (i32.const 65536) (i32.const 1048576))
    (br_if $next (local.tee $left (i32.sub (local.get $left) (i32.const 1))))))
