;; Answers with ends that are at an odd address.
;; expect: not aligned
(func $on_null (param $row i32) (i32.store offset=8 (global.get $column) (i32.add (global.get $ends) (i32.const 1))))
