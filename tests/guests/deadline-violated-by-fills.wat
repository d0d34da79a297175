;; Fills all of its memory again and again. The clock is not looked at within a fill.
;; expect: ran longer than the 100ms of rule.guest.deadline
;; limit: deadline 100ms
(func $on_null (param $row i32)
  (drop (memory.grow (i32.sub (i32.const 64) (memory.size))))
  (loop $ever
    (memory.fill (i32.const 65536) (i32.const 1) (i32.const 4128768))
    (br $ever)))
