;; Takes its time, but ends: ten million rounds, a small part of a second.
;; culprits: none
(func $on_null (param $row i32)
  (local $left i32)
  (local.set $left (i32.const 10000000))
  (loop $again (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1))))))
